package android.widget;

public class Button extends android.widget.TextView {
    public Button(android.content.Context context) { super(context); }
}
