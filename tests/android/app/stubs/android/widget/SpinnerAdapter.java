package android.widget;

public interface SpinnerAdapter extends android.widget.Adapter {
}
