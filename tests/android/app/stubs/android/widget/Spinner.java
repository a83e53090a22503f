package android.widget;

import android.content.Context;

public class Spinner extends AdapterView<SpinnerAdapter> {
    public Spinner(Context context) {
        super(context);
    }

    @Override
    public SpinnerAdapter getAdapter() {
        return super.getAdapter();
    }

    @Override
    public void setAdapter(SpinnerAdapter adapter) {
        super.setAdapter(adapter);
    }
}
