package android.content;

import edgetta.Stub;

public abstract class Context {
    public static final String ACTIVITY_SERVICE = "activity";
    public Context getApplicationContext() { throw new Stub(); }
    public android.content.res.AssetManager getAssets() { throw new Stub(); }
    public android.content.res.Resources getResources() { throw new Stub(); }
    public ContentResolver getContentResolver() { throw new Stub(); }
    public java.io.File getCacheDir() { throw new Stub(); }
    public java.io.File getFilesDir() { throw new Stub(); }
    public java.io.File getExternalFilesDir(String type) { throw new Stub(); }
    public Object getSystemService(String name) { throw new Stub(); }
    public final int getColor(int id) { throw new Stub(); }
    public final String getString(int id) { throw new Stub(); }
    public final String getString(int id, Object... arguments) { throw new Stub(); }
}
