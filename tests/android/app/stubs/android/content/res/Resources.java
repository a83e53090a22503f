package android.content.res;

import edgetta.Device;

public class Resources {
    public String[] getStringArray(int id) {
        return Device.texts(Device.name("array", id));
    }
}
