package android.os;

import edgetta.Device;

public class Handler {
    public Handler(Looper looper) {}

    public final boolean post(Runnable action) {
        return postDelayed(action, 0);
    }

    public final boolean postDelayed(Runnable action, long milliseconds) {
        Device.post(this, action, milliseconds);
        return true;
    }

    public final void removeCallbacksAndMessages(Object token) {
        Device.forget(this);
    }
}
