package android.content;

import edgetta.Stub;

public abstract class ContentResolver {
    public final java.io.OutputStream openOutputStream(android.net.Uri place, String mode) throws java.io.FileNotFoundException { throw new Stub(); }
}
