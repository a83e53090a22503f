package android.graphics;

public class Paint {
    private int color;
    private float width;

    public void setColor(int color) {
        this.color = color;
    }

    public int getColor() {
        return color;
    }

    public void setStrokeWidth(float pixels) {
        width = pixels;
    }

    public float getStrokeWidth() {
        return width;
    }
}
