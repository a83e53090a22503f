package android.os;

public class Build {
    // Not constants to the compiler, which would fold them into what it compiles.
    public static final String BOARD = String.valueOf("stand-in");
    public static final String HARDWARE = String.valueOf("stand-in");
    public static final String MANUFACTURER = String.valueOf("stand-in");
    public static final String MODEL = String.valueOf("stand-in");
    public static final String[] SUPPORTED_ABIS = {"x86_64"};

    public static class VERSION {
        public static final String RELEASE = String.valueOf("8");
        public static final int SDK_INT = Integer.parseInt("26");
    }
}
