package android.widget;

import edgetta.Stub;

public class EditText extends android.widget.TextView {
    public EditText(android.content.Context context) { super(context); }
    @Override public android.text.Editable getText() { throw new Stub(); }
}
