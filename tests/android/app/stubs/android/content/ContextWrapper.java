package android.content;

public class ContextWrapper extends android.content.Context {
}
