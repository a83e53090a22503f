package android.widget;

import edgetta.Stub;

public class Spinner extends android.widget.AdapterView<SpinnerAdapter> {
    public Spinner(android.content.Context context) { super(context); }
    @Override public SpinnerAdapter getAdapter() { throw new Stub(); }
    @Override public void setAdapter(SpinnerAdapter adapter) {}
}
