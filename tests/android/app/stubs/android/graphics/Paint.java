package android.graphics;

import edgetta.Stub;

public class Paint {
    public void setColor(int color) {}
    public void setStrokeWidth(float pixels) {}
    public int getColor() { throw new Stub(); }
    public float getStrokeWidth() { throw new Stub(); }
}
