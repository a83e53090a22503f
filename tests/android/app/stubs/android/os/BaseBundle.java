package android.os;

import edgetta.Stub;

public class BaseBundle {
    public Object get(String key) { throw new Stub(); }
}
