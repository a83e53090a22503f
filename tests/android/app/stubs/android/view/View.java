package android.view;

import android.content.Context;
import android.util.AttributeSet;

public class View {
    private final Context context;
    private boolean enabled = true;
    private boolean keepScreenOn;
    private CharSequence description;
    private OnClickListener listener;

    public interface OnClickListener {
        void onClick(View view);
    }

    public View(Context context) {
        this(context, null);
    }

    public View(Context context, AttributeSet attributes) {
        this.context = context;
    }

    public final Context getContext() {
        return context;
    }

    public final int getWidth() {
        return 100;
    }

    public final int getHeight() {
        return 50;
    }

    public void invalidate() {
        onDraw(new android.graphics.Canvas());
    }

    public void setEnabled(boolean enabled) {
        this.enabled = enabled;
    }

    public boolean isEnabled() {
        return enabled;
    }

    public void setContentDescription(CharSequence text) {
        description = text;
    }

    public CharSequence getContentDescription() {
        return description;
    }

    public void setKeepScreenOn(boolean on) {
        keepScreenOn = on;
    }

    public boolean getKeepScreenOn() {
        return keepScreenOn;
    }

    public void setOnClickListener(OnClickListener listener) {
        this.listener = listener;
    }

    public boolean performClick() {
        if (!enabled) {
            throw new IllegalStateException("it is greyed out");
        }
        listener.onClick(this);
        return true;
    }

    protected void onDraw(android.graphics.Canvas canvas) {}

    protected void onSizeChanged(int width, int height, int oldWidth, int oldHeight) {}
}
