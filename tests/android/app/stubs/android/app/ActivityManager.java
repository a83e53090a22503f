package android.app;

public class ActivityManager {
    public static class MemoryInfo { public long availMem; public long totalMem; public boolean lowMemory; }
    public void getMemoryInfo(MemoryInfo target) {}
}
