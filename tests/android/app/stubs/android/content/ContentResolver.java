package android.content;

import android.net.Uri;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.OutputStream;

public abstract class ContentResolver {
    public final OutputStream openOutputStream(Uri place, String mode) throws FileNotFoundException {
        return new FileOutputStream(place.toString());
    }
}
