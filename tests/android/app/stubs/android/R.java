package android;

public final class R {
    public static final class layout {
        public static final int simple_spinner_item = Integer.parseInt("1");
        public static final int simple_spinner_dropdown_item = Integer.parseInt("2");
    }
}
