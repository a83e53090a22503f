package android.app;

import edgetta.Stub;

public class Activity extends android.view.ContextThemeWrapper {
    public static final int RESULT_OK = -1;
    protected void onCreate(android.os.Bundle saved) {}
    protected void onNewIntent(android.content.Intent intent) {}
    protected void onStop() {}
    protected void onDestroy() {}
    protected void onActivityResult(int requestCode, int resultCode, android.content.Intent data) {}
    public Object onRetainNonConfigurationInstance() { throw new Stub(); }
    public Object getLastNonConfigurationInstance() { throw new Stub(); }
    public android.content.Intent getIntent() { throw new Stub(); }
    public boolean isChangingConfigurations() { throw new Stub(); }
    public boolean isDestroyed() { throw new Stub(); }
    public void setContentView(int layout) {}
    public <T extends android.view.View> T findViewById(int id) { throw new Stub(); }
    public void startActivityForResult(android.content.Intent intent, int requestCode) {}
}
