package android.content.res;

import edgetta.Stub;

public final class AssetManager {
    public java.io.InputStream open(String path) throws java.io.IOException { throw new Stub(); }
    public String[] list(String path) throws java.io.IOException { throw new Stub(); }
}
