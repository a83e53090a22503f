package android.widget;

import edgetta.Stub;

public class TextView extends android.view.View {
    public TextView(android.content.Context context) { super(context); }
    public CharSequence getText() { throw new Stub(); }
    public final void setText(CharSequence text) {}
    public final void setText(int id) {}
    public void setTextColor(int color) {}
    public final int getCurrentTextColor() { throw new Stub(); }
}
