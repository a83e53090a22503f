package org.edgetta.engine

import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.channels.Channels
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.LinkOption.NOFOLLOW_LINKS
import java.nio.file.Path
import java.nio.file.StandardOpenOption.READ
import java.nio.file.attribute.BasicFileAttributes
import java.security.MessageDigest

/** Reads files of a bundle without leaving the bundle: no links, no pipes, no more bytes than were announced. */
internal object FileReading {
    private const val BLOCK_BYTES = 1 shl 16

    /** A whole small file of at most [limit] bytes; of exactly [size] if that is known. */
    fun bytes(root: File, name: String, limit: Long, size: Long? = null): ByteArray {
        val data = ByteArrayOutputStream()
        copy(root, name, limit, size) { block, count -> data.write(block, 0, count) }
        return data.toByteArray()
    }

    /**
     * Add the bytes of a file, or of its parts one after the other, to a digest.
     *
     * @param copy where the bytes go as well, or null.
     */
    fun digest(root: File, entry: BundleFile, digest: MessageDigest, copy: OutputStream? = null) {
        for ((path, size) in entry.stored()) {
            copy(root, path, MAX_FILE_BYTES, size) { block, count ->
                digest.update(block, 0, count)
                copy?.write(block, 0, count)
            }
        }
    }

    /** A file of the manifest as it lies on disk, not copied to memory. */
    fun mapped(root: File, name: String): ByteBuffer {
        val (path, size) = regularFile(root, name)
        try {
            return FileChannel.open(path, READ, NOFOLLOW_LINKS).use { it.map(FileChannel.MapMode.READ_ONLY, 0, size) }
        } catch (error: IOException) {
            throw BundleException("$name: cannot be read (${error.message})", error)
        }
    }

    private fun copy(root: File, name: String, limit: Long, size: Long?, take: (ByteArray, Int) -> Unit) {
        val (path, found) = regularFile(root, name)
        if (size != null && found != size) throw BundleException("$name: $found bytes, the manifest says $size")
        if (found > limit) throw BundleException("$name: $found bytes, at most $limit are allowed")
        val channel = try {
            Files.newByteChannel(path, setOf(READ, NOFOLLOW_LINKS))
        } catch (error: IOException) {
            throw BundleException("$name: cannot be opened (${error.message})", error)
        }
        var total = 0L
        Channels.newInputStream(channel).use { stream ->
            val block = ByteArray(BLOCK_BYTES)
            while (total <= found) {
                val count = try {
                    stream.read(block)
                } catch (error: IOException) {
                    throw BundleException("$name: cannot be read (${error.message})", error)
                }
                if (count < 0) break
                total += count
                take(block, count)
            }
        }
        if (total != found) throw BundleException("$name: changed its size while it was read")
    }

    /** Path and size of a regular file; every directory on the way from the root is looked at. */
    private fun regularFile(root: File, name: String): Pair<Path, Long> {
        var path = root.toPath()
        val parts = name.split('/')
        for ((index, part) in parts.withIndex()) {
            path = path.resolve(part)
            val attributes = try {
                Files.readAttributes(path, BasicFileAttributes::class.java, NOFOLLOW_LINKS)
            } catch (error: IOException) {
                throw BundleException("$name: file is missing", error)
            }
            if (attributes.isSymbolicLink) throw BundleException("$name: symbolic links are not allowed")
            if (index < parts.size - 1) {
                if (!attributes.isDirectory) throw BundleException("$name: a part of the path is no directory")
            } else {
                if (!attributes.isRegularFile) throw BundleException("$name: not a regular file")
                return path to attributes.size()
            }
        }
        throw BundleException("$name: file is missing")
    }
}
