package org.edgetta.demo

import android.content.ContentResolver
import android.content.Intent
import android.net.Uri
import java.io.IOException

/** Saving through the system's own dialog: no permission is needed, and the user chooses the place. */
object Documents {
    /** Request codes of the dialogs. */
    const val SAVE_SOUND = 1
    const val SAVE_BENCHMARK = 2

    /** Asks where a sound shall go. */
    fun soundIntent(name: String): Intent = intent("audio/x-wav", "$name.wav")

    /** Asks where a benchmark shall go. */
    fun benchmarkIntent(name: String): Intent = intent("application/json", "$name.json")

    /**
     * Writes what the user chose a place for, over what was there.
     *
     * @throws IOException nothing or not everything was written.
     */
    fun write(resolver: ContentResolver, place: Uri, bytes: ByteArray) {
        try {
            // "t" cuts what was there; without it a longer file would keep its end.
            val stream = resolver.openOutputStream(place, "wt") ?: throw IOException("the place cannot be written to")
            stream.use { it.write(bytes) }
        } catch (error: SecurityException) {
            throw IOException(error.message, error)
        }
    }

    /** A file name of what a prompt says: words of letters and digits, at most 40 characters. */
    internal fun fileName(prompt: String, seed: Long): String {
        val words = prompt.lowercase().split(Regex("[^\\p{L}\\p{N}]+")).filter { it.isNotEmpty() }
        return (words.joinToString("-").take(40).trim('-').ifEmpty { "sound" }) + "-$seed"
    }

    private fun intent(type: String, name: String) = Intent(Intent.ACTION_CREATE_DOCUMENT).apply {
        addCategory(Intent.CATEGORY_OPENABLE)
        setType(type)
        putExtra(Intent.EXTRA_TITLE, name)
    }
}
