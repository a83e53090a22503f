package android.app;

public class ActivityManager {
    public static class MemoryInfo {
        public long availMem;
        public long totalMem;
        public boolean lowMemory;
    }

    public void getMemoryInfo(MemoryInfo target) {
        target.totalMem = 8L << 30;
        target.availMem = 4L << 30;
    }
}
