package edgetta;

import android.content.Context;
import android.util.AttributeSet;
import android.view.View;
import android.widget.TextView;
import java.io.File;
import java.util.HashMap;
import java.util.Map;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

/** Makes the views of a layout file that have names. */
public final class Layout {
    private Layout() {}

    /** Views by their names; groups are not made. */
    public static Map<String, View> inflate(Context context, String name) {
        Map<String, View> views = new HashMap<>();
        var elements = read(new File(Device.resources, "layout/" + name + ".xml")).getElementsByTagName("*");
        for (int index = 0; index < elements.getLength(); index++) {
            Element element = (Element) elements.item(index);
            String id = element.getAttribute("android:id");
            if (!id.isEmpty()) {
                View view = make(context, element.getTagName());
                String text = element.getAttribute("android:text");
                if (view instanceof TextView && !text.isEmpty()) {
                    ((TextView) view).setText(text.startsWith("@string/") ? Device.text(text.substring(8)) : text);
                }
                views.put(id.substring("@+id/".length()), view);
            }
        }
        return views;
    }

    static Element element(File file, String tag, String name) {
        var elements = read(file).getElementsByTagName(tag);
        for (int index = 0; index < elements.getLength(); index++) {
            Element element = (Element) elements.item(index);
            if (element.getAttribute("name").equals(name)) {
                return element;
            }
        }
        throw new IllegalArgumentException(name);
    }

    private static View make(Context context, String tag) {
        try {
            Class<?> kind = Class.forName(tag.contains(".") ? tag : "android.widget." + tag);
            try {
                return (View) kind.getConstructor(Context.class, AttributeSet.class).newInstance(context, null);
            } catch (NoSuchMethodException error) {
                return (View) kind.getConstructor(Context.class).newInstance(context);
            }
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(tag, error);
        }
    }

    private static Document read(File file) {
        try {
            return DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file);
        } catch (Exception error) {
            throw new IllegalStateException(file.getName(), error);
        }
    }
}
