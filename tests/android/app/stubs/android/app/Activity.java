package android.app;

import android.content.Intent;
import android.os.Bundle;
import android.view.View;
import edgetta.Device;
import edgetta.Layout;
import java.util.Map;

public class Activity extends android.view.ContextThemeWrapper {
    public static final int RESULT_OK = -1;
    private Map<String, View> views;
    private Intent intent;
    private Object kept;
    private boolean changing;
    private boolean destroyed;

    protected void onCreate(Bundle saved) {}

    protected void onNewIntent(Intent intent) {}

    protected void onStop() {}

    protected void onDestroy() {
        destroyed = true;
    }

    protected void onActivityResult(int requestCode, int resultCode, Intent data) {}

    public Object onRetainNonConfigurationInstance() {
        return null;
    }

    public Object getLastNonConfigurationInstance() {
        return kept;
    }

    public Intent getIntent() {
        return intent;
    }

    public boolean isChangingConfigurations() {
        return changing;
    }

    public boolean isDestroyed() {
        return destroyed;
    }

    public void setContentView(int layout) {
        views = Layout.inflate(this, Device.name("layout", layout));
    }

    @SuppressWarnings("unchecked")
    public <T extends View> T findViewById(int id) {
        return (T) views.get(Device.name("id", id));
    }

    public void startActivityForResult(Intent intent, int requestCode) {
        Device.sent = intent;
    }

    /** What the system does with activities. */
    public static final class Life {
        private Life() {}

        public static void start(Activity activity, Intent intent) {
            activity.intent = intent;
            activity.onCreate(null);
        }

        public static void bring(Activity activity, Intent intent) {
            activity.onNewIntent(intent);
        }

        public static void turn(Activity old, Activity young) {
            young.kept = old.onRetainNonConfigurationInstance();
            young.intent = old.intent;
            old.changing = true;
            end(old);
            young.onCreate(new Bundle());
        }

        public static void answer(Activity activity, int requestCode, Intent data) {
            activity.onActivityResult(requestCode, RESULT_OK, data);
        }

        public static void end(Activity activity) {
            activity.onStop();
            activity.onDestroy();
        }
    }
}
