package android.content.res;

import edgetta.Stub;

public class Resources {
    public String[] getStringArray(int id) { throw new Stub(); }
}
