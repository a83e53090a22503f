package org.edgetta.demo

import android.content.res.AssetManager
import java.io.File
import java.io.IOException
import java.io.InputStream
import org.edgetta.engine.Bundle
import org.edgetta.engine.BundleException

/** Files that came with the app. */
interface Assets {
    /** Names of what is in a folder; empty for a file, as there are no empty folders. */
    fun list(folder: String): List<String>

    /** @throws IOException there is no such file. */
    fun open(path: String): InputStream
}

/** The assets of an Android package. */
class PackageAssets(private val assets: AssetManager) : Assets {
    override fun list(folder: String): List<String> = assets.list(folder).orEmpty().toList()

    override fun open(path: String): InputStream = assets.open(path)
}

/**
 * Finds the app's bundle: a folder pushed by adb first, else the one in the app's assets.
 *
 * Runtimes open files by their path, and assets have none, so the bundle is copied out once. A folder of the final name
 * is complete: it is filled under another name and renamed.
 *
 * @param pushed folder that may hold a folder "bundle"; null if the device has no such storage now.
 * @param files folder that only the app can write, for the copy.
 * @param cache folder that the system may clear, for graphs that are stored in parts and joined.
 */
class BundleInstaller(
    private val assets: Assets,
    private val pushed: File?,
    private val files: File,
    private val cache: File,
) {
    /**
     * The bundle, opened: its manifest's digest is verified now, every other file when it is used.
     *
     * @return null if the app was built without one and none was pushed.
     * @throws BundleException the bundle is damaged.
     * @throws IOException it cannot be copied, for want of room for example.
     */
    fun open(): Bundle? {
        val brought = pushed?.let { File(it, NAME) }?.takeIf { File(it, MANIFEST).isFile }
        val folder = brought ?: installed() ?: return null
        return Bundle.open(folder, cache)
    }

    private fun installed(): File? {
        val manifest = try {
            assets.open("$NAME/$MANIFEST").use { it.readBytes() }
        } catch (error: IOException) {
            return null
        }
        val target = File(files, NAME)
        val copied = File(target, MANIFEST)
        // The manifest has the hash of every file, so equal manifests are equal bundles; an update of the app with
        // another model is noticed.
        if (!copied.isFile || !copied.readBytes().contentEquals(manifest)) install(target)
        return target
    }

    private fun install(target: File) {
        val part = File(files, "$NAME.part")
        remove(part)
        copy(NAME, part)
        verify(part)
        remove(target)
        if (!part.renameTo(target)) throw IOException("${target.name} cannot be put in its place")
    }

    /** Hashes what was copied, so that a full disk or a broken package is named at once and not at the first sound. */
    private fun verify(folder: File) {
        val bundle = Bundle.open(folder, cache)
        // Assets hold some of the bundle's files only: what is there must be right, what runs is asked for later.
        bundle.manifest.files()
            .filter { entry -> entry.stored().any { (path, _) -> File(folder, path).exists() } }
            .distinctBy { it.file }
            .forEach(bundle::verify)
    }

    private fun copy(path: String, target: File) {
        val names = assets.list(path)
        if (names.isEmpty()) {
            assets.open(path).use { source -> target.outputStream().use { source.copyTo(it) } }
            return
        }
        if (!target.isDirectory && !target.mkdirs()) throw IOException("${target.name} cannot be made")
        names.forEach { name -> copy("$path/$name", File(target, name)) }
    }

    private fun remove(folder: File) {
        if (folder.exists() && !folder.deleteRecursively()) throw IOException("${folder.name} cannot be removed")
    }

    private companion object {
        const val NAME = "bundle"
        const val MANIFEST = "manifest.json"
    }
}
