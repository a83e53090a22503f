package android.widget;

import android.content.Context;
import android.view.View;

public abstract class AdapterView<T extends Adapter> extends View {
    private T adapter;
    private int selected;
    private OnItemSelectedListener listener;

    public interface OnItemSelectedListener {
        void onItemSelected(AdapterView<?> parent, View view, int position, long id);

        void onNothingSelected(AdapterView<?> parent);
    }

    public AdapterView(Context context) {
        super(context);
    }

    public T getAdapter() {
        return adapter;
    }

    public void setAdapter(T adapter) {
        this.adapter = adapter;
    }

    public int getCount() {
        return adapter.getCount();
    }

    public int getSelectedItemPosition() {
        return selected;
    }

    public void setSelection(int position) {
        selected = position;
        if (listener != null) {
            listener.onItemSelected(this, null, position, position);
        }
    }

    public void setOnItemSelectedListener(OnItemSelectedListener listener) {
        this.listener = listener;
    }

    public final OnItemSelectedListener getOnItemSelectedListener() {
        return listener;
    }
}
