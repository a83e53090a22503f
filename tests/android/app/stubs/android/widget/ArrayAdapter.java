package android.widget;

import android.content.Context;
import java.util.List;

public class ArrayAdapter<T> implements ListAdapter, SpinnerAdapter {
    private final List<T> items;

    public ArrayAdapter(Context context, int layout, List<T> items) {
        this.items = items;
    }

    @Override
    public int getCount() {
        return items.size();
    }

    public T getItem(int position) {
        return items.get(position);
    }

    public void setDropDownViewResource(int layout) {}
}
