package android.content;

import android.app.ActivityManager;
import edgetta.Device;
import java.io.File;

public abstract class Context {
    public static final String ACTIVITY_SERVICE = "activity";

    public Context getApplicationContext() {
        return this;
    }

    public android.content.res.AssetManager getAssets() {
        return new android.content.res.AssetManager();
    }

    public android.content.res.Resources getResources() {
        return new android.content.res.Resources();
    }

    public ContentResolver getContentResolver() {
        return new ContentResolver() {};
    }

    public File getCacheDir() {
        return Device.folder("cache");
    }

    public File getFilesDir() {
        return Device.folder("files");
    }

    public File getExternalFilesDir(String type) {
        return Device.folder("external");
    }

    public Object getSystemService(String name) {
        return name.equals(ACTIVITY_SERVICE) ? new ActivityManager() : null;
    }

    public final int getColor(int id) {
        return id;
    }

    public final String getString(int id) {
        return Device.text(Device.name("string", id));
    }

    public final String getString(int id, Object... arguments) {
        return String.format(getString(id), arguments);
    }
}
