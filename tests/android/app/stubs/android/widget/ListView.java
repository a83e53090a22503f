package android.widget;

import android.content.Context;

public class ListView extends AdapterView<ListAdapter> {
    public ListView(Context context) {
        super(context);
    }

    @Override
    public ListAdapter getAdapter() {
        return super.getAdapter();
    }

    @Override
    public void setAdapter(ListAdapter adapter) {
        super.setAdapter(adapter);
    }

    public void setDivider(android.graphics.drawable.Drawable divider) {}

    public android.graphics.drawable.Drawable getDivider() {
        return null;
    }
}
