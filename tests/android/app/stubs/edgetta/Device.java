package edgetta;

import java.io.File;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.PriorityBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;

/** The one device that the stand-ins of Android's classes share: its folders, its main thread, what it was told. */
public final class Device {
    /** Set by tests before anything runs. */
    public static File resources;

    public static File assets;
    public static File storage;
    public static Class<?> names;

    /** The samples that were played last, and the intent that was sent last. */
    public static float[] played;

    public static Object sent;

    private static final AtomicLong ORDER = new AtomicLong();
    private static final PriorityBlockingQueue<Task> TASKS =
            new PriorityBlockingQueue<>(16, Comparator.comparingLong((Task task) -> task.due).thenComparing(t -> t.order));

    private static final class Task {
        final Object owner;
        final Runnable action;
        final long due;
        final long order = ORDER.incrementAndGet();

        Task(Object owner, Runnable action, long due) {
            this.owner = owner;
            this.action = action;
            this.due = due;
        }
    }

    private Device() {}

    /** Lets the main thread do something after a time. */
    public static void post(Object owner, Runnable action, long milliseconds) {
        TASKS.add(new Task(owner, action, System.nanoTime() / 1_000_000 + milliseconds));
    }

    /** Forgets what an owner has posted. */
    public static void forget(Object owner) {
        TASKS.removeIf(task -> task.owner == owner);
    }

    /** Is the main thread until something holds; false if it does not within a minute or so. */
    public static boolean runUntil(BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(100);
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() > end) {
                return false;
            }
            Task task = TASKS.peek();
            if (task == null || task.due > System.nanoTime() / 1_000_000) {
                Thread.sleep(2);
            } else {
                TASKS.remove(task);
                task.action.run();
            }
        }
        return true;
    }

    /** A folder of the app's storage. */
    public static File folder(String name) {
        File folder = new File(storage, name);
        folder.mkdirs();
        return folder;
    }

    /** Name of a resource of a kind by its number. */
    public static String name(String kind, int number) {
        try {
            for (Class<?> inner : names.getDeclaredClasses()) {
                if (inner.getSimpleName().equals(kind)) {
                    for (var field : inner.getFields()) {
                        if (field.getInt(null) == number) {
                            return field.getName();
                        }
                    }
                }
            }
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
        throw new IllegalArgumentException(kind + " " + number);
    }

    /** Text of a string resource. */
    public static String text(String name) {
        var found = Layout.element(new File(resources, "values/strings.xml"), "string", name);
        return found.getTextContent().replace("\\n", "\n");
    }

    /** Texts of an array of strings. */
    public static String[] texts(String name) {
        var items = Layout.element(new File(resources, "values/strings.xml"), "string-array", name);
        List<String> texts = new ArrayList<>();
        var children = items.getElementsByTagName("item");
        for (int index = 0; index < children.getLength(); index++) {
            texts.add(children.item(index).getTextContent());
        }
        return texts.toArray(new String[0]);
    }
}
