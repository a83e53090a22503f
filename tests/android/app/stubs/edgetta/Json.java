package edgetta;

/** Values as JSON writes them. */
public final class Json {
    private Json() {}

    /** Text in quotes, numbers and objects as they print themselves. */
    public static String text(Object value) {
        if (!(value instanceof String)) {
            return String.valueOf(value);
        }
        return '"' + ((String) value).replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }
}
