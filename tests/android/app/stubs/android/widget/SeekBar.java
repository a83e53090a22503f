package android.widget;

import edgetta.Stub;

public class SeekBar extends android.view.View {
    public interface OnSeekBarChangeListener { void onProgressChanged(SeekBar bar, int progress, boolean fromUser); void onStartTrackingTouch(SeekBar bar); void onStopTrackingTouch(SeekBar bar); }
    public SeekBar(android.content.Context context) { super(context); }
    public void setOnSeekBarChangeListener(OnSeekBarChangeListener listener) {}
    public int getMax() { throw new Stub(); }
    public void setMax(int max) {}
    public int getProgress() { throw new Stub(); }
    public void setProgress(int progress) {}
}
