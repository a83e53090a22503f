package android.widget;

import android.content.Context;

public class TextView extends android.view.View {
    private CharSequence text = "";
    private int color;

    public TextView(Context context) {
        super(context);
    }

    public CharSequence getText() {
        return text;
    }

    public final void setText(CharSequence text) {
        this.text = text;
    }

    public final void setText(int id) {
        setText(getContext().getString(id));
    }

    public void setTextColor(int color) {
        this.color = color;
    }

    public final int getCurrentTextColor() {
        return color;
    }
}
