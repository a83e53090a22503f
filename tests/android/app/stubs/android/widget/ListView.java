package android.widget;

import edgetta.Stub;

public class ListView extends android.widget.AdapterView<ListAdapter> {
    public ListView(android.content.Context context) { super(context); }
    @Override public ListAdapter getAdapter() { throw new Stub(); }
    @Override public void setAdapter(ListAdapter adapter) {}
    public void setDivider(android.graphics.drawable.Drawable divider) {}
    public android.graphics.drawable.Drawable getDivider() { throw new Stub(); }
}
