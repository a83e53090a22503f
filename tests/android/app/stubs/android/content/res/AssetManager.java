package android.content.res;

import edgetta.Device;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

public final class AssetManager {
    public InputStream open(String path) throws IOException {
        return new FileInputStream(new File(Device.assets, path));
    }

    public String[] list(String path) throws IOException {
        String[] names = new File(Device.assets, path).list();
        return names == null ? new String[0] : names;
    }
}
