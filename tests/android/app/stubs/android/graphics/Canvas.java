package android.graphics;

public class Canvas {
    public void drawLines(float[] points, Paint paint) {}
}
