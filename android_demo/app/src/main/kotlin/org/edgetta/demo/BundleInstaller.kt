package org.edgetta.demo

import android.content.Context
import android.content.res.AssetManager
import java.io.File
import java.io.IOException
import org.edgetta.engine.Bundle
import org.edgetta.engine.BundleException

/**
 * Finds the app's bundle: a folder pushed by adb first, else the one in the app's assets.
 *
 * Runtimes open files by their path, and assets have none, so the bundle is copied out once. A folder of the final name
 * is complete: it is filled under another name and renamed.
 */
class BundleInstaller(private val context: Context) {
    /** Where adb may push a bundle; survives updates of the app. */
    private val pushed: File?
        get() = context.getExternalFilesDir(null)?.let { File(it, NAME) }

    /** For graphs that are stored in parts; the system may clear it, and they are joined again. */
    private val scratch: File
        get() = File(context.cacheDir, "parts")

    /**
     * The bundle, opened: its manifest's digest is verified now, every other file when it is used.
     *
     * @return null if the app was built without one and none was pushed.
     * @throws BundleException the bundle is damaged.
     * @throws IOException it cannot be copied, for want of room for example.
     */
    fun open(): Bundle? {
        val folder = pushed?.takeIf { File(it, MANIFEST).isFile } ?: installed() ?: return null
        return Bundle.open(folder, scratch)
    }

    private fun installed(): File? {
        val manifest = try {
            context.assets.open("$NAME/$MANIFEST").use { it.readBytes() }
        } catch (error: IOException) {
            return null
        }
        val target = File(context.filesDir, NAME)
        // The manifest has the hash of every file, so equal manifests are equal bundles; an update of the app with
        // another model is noticed.
        val copied = File(target, MANIFEST)
        if (!copied.isFile || !copied.readBytes().contentEquals(manifest)) install(target)
        return target
    }

    private fun install(target: File) {
        val part = File(context.filesDir, "$NAME.part")
        remove(part)
        copy(context.assets, NAME, part)
        verify(part)
        remove(target)
        if (!part.renameTo(target)) throw IOException("${target.name} cannot be put in its place")
    }

    /** Hashes what was copied, so that a full disk or a broken package is named at once and not at the first sound. */
    private fun verify(folder: File) {
        val bundle = Bundle.open(folder, scratch)
        // Assets hold some of the bundle's files only: what is there must be right, what runs is asked for later.
        bundle.manifest.files()
            .filter { entry -> entry.stored().any { (path, _) -> File(folder, path).exists() } }
            .distinctBy { it.file }
            .forEach(bundle::verify)
    }

    private fun copy(assets: AssetManager, path: String, target: File) {
        val names = assets.list(path).orEmpty()
        // An asset folder is what has something in it: there are no empty ones.
        if (names.isEmpty()) {
            assets.open(path).use { source -> target.outputStream().use { source.copyTo(it) } }
            return
        }
        if (!target.isDirectory && !target.mkdirs()) throw IOException("${target.name} cannot be made")
        names.forEach { name -> copy(assets, "$path/$name", File(target, name)) }
    }

    private fun remove(folder: File) {
        if (folder.exists() && !folder.deleteRecursively()) throw IOException("${folder.name} cannot be removed")
    }

    private companion object {
        const val NAME = "bundle"
        const val MANIFEST = "manifest.json"
    }
}
