package android;

import edgetta.Stub;

public final class R {
    public static final class layout { public static final int simple_spinner_item = Stub.text().length(); public static final int simple_spinner_dropdown_item = Stub.text().length(); }
}
