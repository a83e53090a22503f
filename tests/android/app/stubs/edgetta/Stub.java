package edgetta;

/** The body of a method that exists to be compiled against and is never called. */
public final class Stub extends RuntimeException {
    public Stub() {
        super("a signature only");
    }

    /** A value that the compiler must not fold into what it compiles, as it would a constant of ours. */
    public static String text() {
        return "stub";
    }
}
