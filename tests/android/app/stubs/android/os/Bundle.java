package android.os;

public final class Bundle extends android.os.BaseBundle {
}
