package android.widget;

import edgetta.Stub;

public class ArrayAdapter<T> implements android.widget.ListAdapter, android.widget.SpinnerAdapter {
    public ArrayAdapter(android.content.Context context, int layout, java.util.List<T> items) {}
    public int getCount() { throw new Stub(); }
    public void setDropDownViewResource(int layout) {}
}
