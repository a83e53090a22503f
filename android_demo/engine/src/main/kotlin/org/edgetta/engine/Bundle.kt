package org.edgetta.engine

import java.io.File
import java.io.IOException

/**
 * An opened bundle: a folder with everything a runtime needs. Opening one runs no code from it and writes nothing.
 *
 * Every file is hashed when it is asked for. Unlike the Python package, the engine hands paths to native runtimes, so
 * that a model is mapped and not copied to the heap of an app; a bundle therefore belongs into storage that only the
 * app can write. ONNX graphs are inspected as in Python; ExecuTorch programs and Core ML packages are not.
 *
 * @property root directory of the bundle.
 * @property manifest its parsed manifest.
 */
class Bundle private constructor(val root: File, val manifest: Manifest, private val scratch: File) {
    /** Name and beginning of the digest, as recorded in results. */
    val name: String get() = "${manifest.name}@${manifest.digest.take(12)}"

    /**
     * Verified file of a stage: its path in the bundle, or the joined copy in the scratch folder of one that is stored
     * in parts. A joined copy is kept under its hash and used again.
     *
     * @throws BackendException the bundle has no such variant.
     * @throws BundleException a file is missing, a link, not what the manifest says, or holds what no graph may; or the
     *   copy cannot be written.
     */
    fun stageFile(variant: String, stage: String): File {
        val known = manifest.variants.keys.sorted().joinToString()
        val found = manifest.variants[variant]
            ?: throw BackendException("bundle $name has no variant '${variant.take(80)}'; it has $known")
        val entry = found.stages[stage]
            ?: throw BackendException("no stage '${stage.take(80)}'; there are ${STAGES.joinToString()}")
        val file = if (entry.partBytes != null) joined(entry) else File(root, entry.file).also { verify(entry) }
        // The manifest lets graphs of that runtime have no other suffix.
        if (entry.file.endsWith(".onnx")) {
            val (folder, name) = if (entry.partBytes != null) scratch to file.name else root to entry.file
            OnnxInspection.inspect(entry.file, FileReading.mapped(folder, name))
        }
        return file
    }

    /**
     * Verified tokenizer.
     *
     * @throws BundleException damaged, or it has pieces that the text encoder does not know.
     */
    fun tokenizer(): Tokenizer {
        val entry = manifest.tokenizer
        val data = FileReading.bytes(root, entry.file, MAX_FILE_BYTES, entry.bytes)
        check(entry, Hashes.sha256().digest(data))
        val tokenizer = Tokenizer(data, entry.maxTokens)
        if (tokenizer.vocabularySize > manifest.vocabularySize) {
            throw BundleException(
                "${entry.file}: ${tokenizer.vocabularySize} pieces, the text encoder knows ${manifest.vocabularySize}",
            )
        }
        return tokenizer
    }

    /**
     * Check size and hash of one file of the manifest, whole or in parts.
     *
     * @throws BundleException it is not what the manifest says.
     */
    fun verify(entry: BundleFile) {
        val digest = Hashes.sha256()
        FileReading.digest(root, entry, digest)
        check(entry, digest.digest())
    }

    private fun check(entry: BundleFile, digest: ByteArray) {
        if (Hashes.hexadecimal(digest) != entry.sha256) {
            throw BundleException("${entry.file}: content does not match its SHA-256; the file is damaged")
        }
    }

    private fun joined(entry: StageFile): File {
        val target = File(scratch, "${entry.sha256}.${entry.file.substringAfterLast('.')}")
        if (isWhole(target, entry)) return target
        try {
            if (!scratch.isDirectory && !scratch.mkdirs()) throw IOException("the folder cannot be made")
            val part = File.createTempFile("joining-", ".part", scratch)
            try {
                val digest = Hashes.sha256()
                part.outputStream().use { FileReading.digest(root, entry, digest, it) }
                check(entry, digest.digest())
                if (!part.renameTo(target)) throw IOException("the copy cannot be renamed")
            } finally {
                part.delete()
            }
        } catch (error: IOException) {
            throw BundleException("${entry.file}: its parts cannot be joined (${error.message})", error)
        }
        return target
    }

    private fun isWhole(copy: File, entry: StageFile): Boolean {
        if (copy.length() != entry.bytes) return false
        return try {
            val digest = Hashes.sha256()
            FileReading.digest(scratch, BundleFile(copy.name, entry.bytes, entry.sha256), digest)
            Hashes.hexadecimal(digest.digest()) == entry.sha256
        } catch (_: BundleException) {
            false
        }
    }

    companion object {
        /**
         * Open a bundle: its manifest is read and checked as a whole, other files when they are asked for.
         *
         * @param root directory of the bundle.
         * @param scratch folder for joined copies of files that are stored in parts; made when it is needed.
         * @throws BundleException no bundle is there, or anything is wrong with its manifest.
         */
        @JvmStatic
        @Throws(BundleException::class)
        fun open(root: File, scratch: File): Bundle {
            if (!root.isDirectory) throw BundleException("no bundle '${root.path}': it is no directory")
            return Bundle(root, Manifest.parse(FileReading.bytes(root, MANIFEST_NAME, MAX_MANIFEST_BYTES)), scratch)
        }
    }
}
