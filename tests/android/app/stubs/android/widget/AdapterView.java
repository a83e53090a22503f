package android.widget;

import edgetta.Stub;

public abstract class AdapterView<T extends Adapter> extends android.view.View {
    public interface OnItemSelectedListener { void onItemSelected(AdapterView<?> parent, android.view.View view, int position, long id); void onNothingSelected(AdapterView<?> parent); }
    public AdapterView(android.content.Context context) { super(context); }
    public abstract T getAdapter();
    public abstract void setAdapter(T adapter);
    public int getCount() { throw new Stub(); }
    public int getSelectedItemPosition() { throw new Stub(); }
    public void setSelection(int position) {}
    public void setOnItemSelectedListener(OnItemSelectedListener listener) {}
    public final OnItemSelectedListener getOnItemSelectedListener() { throw new Stub(); }
}
