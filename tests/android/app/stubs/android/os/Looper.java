package android.os;

import edgetta.Stub;

public final class Looper {
    public static Looper getMainLooper() { throw new Stub(); }
}
