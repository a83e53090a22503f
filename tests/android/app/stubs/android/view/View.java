package android.view;

import edgetta.Stub;

public class View {
    public interface OnClickListener { void onClick(View view); }
    public View(android.content.Context context) {}
    public View(android.content.Context context, android.util.AttributeSet attributes) {}
    public final android.content.Context getContext() { throw new Stub(); }
    public final int getWidth() { throw new Stub(); }
    public final int getHeight() { throw new Stub(); }
    public void invalidate() {}
    public void setEnabled(boolean enabled) {}
    public boolean isEnabled() { throw new Stub(); }
    public void setContentDescription(CharSequence text) {}
    public CharSequence getContentDescription() { throw new Stub(); }
    public void setKeepScreenOn(boolean on) {}
    public boolean getKeepScreenOn() { throw new Stub(); }
    public void setOnClickListener(OnClickListener listener) {}
    protected void onDraw(android.graphics.Canvas canvas) {}
    protected void onSizeChanged(int width, int height, int oldWidth, int oldHeight) {}
}
