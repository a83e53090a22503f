package android.os;

import edgetta.Stub;

public class Handler {
    public Handler(Looper looper) {}
    public final boolean post(Runnable action) { throw new Stub(); }
    public final boolean postDelayed(Runnable action, long milliseconds) { throw new Stub(); }
    public final void removeCallbacksAndMessages(Object token) {}
}
