package org.edgetta.engine

/** Version of edge_tta that this engine follows; bundles that need a later one are refused. */
const val ENGINE_VERSION = "0.1.0"

private const val SCHEMA_VERSION = 1L
private const val MAX_DEPTH = 8
private const val MAX_FILES = 64
private const val MAX_TOTAL_BYTES = 1L shl 32
private const val MAX_VARIANTS = 16
private const val MAX_TEXT_CHARACTERS = 2000
private const val MEBIBYTE = 1L shl 20

/** Digest of a manifest that has not been sealed. */
private val UNSEALED = "0".repeat(64)
private val VERSION = Regex("[0-9]{1,4}\\.[0-9]{1,4}\\.[0-9]{1,4}")
private val LICENCE = Regex("[A-Za-z0-9.+() -]{2,80}")
private val WORD = Regex("[ -~]{0,200}")
private val HIDDEN = listOf(0x200B..0x200F, 0x202A..0x202E, 0x2060..0x206F)
private val SAMPLERS = listOf("euler", "ping-pong")

/** Files besides tokenizer and graphs, with their largest sizes in bytes. */
private val OTHERS = mapOf("golden" to 64 * MEBIBYTE, "model_card" to MEBIBYTE, "attributions" to 16 * MEBIBYTE)
private const val MAX_TOKENIZER_BYTES = 16 * MEBIBYTE

/** Reads manifests: canonical form and digest first, on the document as it is written, then its meaning. */
internal object ManifestReader {
    fun read(data: ByteArray): Manifest = try {
        val document = document(data)
        checkRelease(document)
        checkSeal(document, data)
        manifest(document)
    } catch (error: IllegalArgumentException) {
        throw BundleException(Unicode.oneLine("$MANIFEST_NAME: ${error.message}"), error)
    }

    private fun document(data: ByteArray): Map<String, Any?> {
        require(data.size <= MAX_MANIFEST_BYTES) { "${data.size} bytes, at most $MAX_MANIFEST_BYTES are allowed" }
        require(data.all { it >= 0 }) { "not ASCII" }
        val value = JsonReader.parse(String(data, Charsets.US_ASCII), MAX_DEPTH)
        @Suppress("UNCHECKED_CAST") // The reader makes no other keys.
        return value as? Map<String, Any?> ?: throw IllegalArgumentException("not an object")
    }

    /** Refuse what is meant for a later release before looking at fields that this one cannot know. */
    private fun checkRelease(document: Map<String, Any?>) {
        val version = document["schema_version"]
        require(version is Long && version >= 1) { "schema_version is no positive integer" }
        require(version <= SCHEMA_VERSION) {
            "schema version $version is newer than this runtime knows ($SCHEMA_VERSION); update the app"
        }
        val runtime = document["min_runtime"]
        if (runtime is String && VERSION.matches(runtime)) {
            require(order(runtime) <= order(ENGINE_VERSION)) {
                "the bundle needs edge-tta $runtime or later, this is $ENGINE_VERSION; update the app"
            }
        }
    }

    private fun order(version: String): Long = version.split('.').fold(0L) { sum, part -> sum * 10_000 + part.toLong() }

    private fun checkSeal(document: Map<String, Any?>, data: ByteArray) {
        val canonical = JsonWriter.canonical(document) + "\n"
        require(canonical.toByteArray(Charsets.US_ASCII).contentEquals(data)) { "not in canonical form" }
        val unsealed = JsonWriter.canonical(document + ("digest" to UNSEALED)) + "\n"
        require(document["digest"] == Hashes.ofText(unsealed)) {
            "digest does not belong to the manifest; the file is damaged"
        }
    }

    private fun manifest(document: Map<String, Any?>): Manifest {
        val fields = Fields(document, "")
        fields.whole("schema_version", SCHEMA_VERSION..SCHEMA_VERSION)
        if (fields.has("min_runtime")) fields.text("min_runtime", VERSION)
        val config = ModelConfig.read(fields.fields("config"))
        require(Hashes.ofText(JsonWriter.canonical(document["config"])) == fields.text("config_digest", DIGEST)) {
            "config_digest does not belong to config"
        }
        val manifest = Manifest(
            name = fields.text("name", NAME),
            version = fields.text("version", VERSION),
            digest = fields.text("digest", DIGEST),
            description = shownText(fields, "description"),
            licence = fields.text("licence", LICENCE),
            trainingData = shownText(fields, "training_data"),
            audio = config.audio,
            vocabularySize = config.vocabularySize,
            generation = generation(fields.fields("generation")),
            tokenizer = EntriesReader.tokenizer(fields.fields("tokenizer")),
            variants = variants(fields.fields("variants")),
            others = OTHERS.keys.associateWith { EntriesReader.file(fields.fields(it)) },
            provenance = provenance(fields.fields("provenance")),
        )
        fields.end()
        check(manifest, config)
        return manifest
    }

    /** Text that is shown: no escape sequences, nothing that turns the direction of writing, at least one letter. */
    private fun shownText(fields: Fields, name: String): String {
        val text = fields.text(name)
        val points = text.codePoints().toArray()
        val hidden = points.any {
            it != 0x0A && (it < 0x20 || it in 0x7F..0x9F || HIDDEN.any { range -> it in range })
        }
        if (hidden || points.size > MAX_TEXT_CHARACTERS || points.none { Unicode.isLetterOrNumber(it) }) {
            Fields.refuse(fields.at(name), "at most $MAX_TEXT_CHARACTERS visible characters are expected")
        }
        return text
    }

    private fun generation(fields: Fields): Generation {
        val generation = Generation(
            defaultGuidance = fields.number("default_guidance", 0.0, 100.0),
            minGuidance = fields.number("min_guidance", 0.0, 100.0),
            maxGuidance = fields.number("max_guidance", 0.0, 100.0),
            maxSteps = fields.whole("max_steps", 1L..64).toInt(),
            sampler = if (fields.has("sampler")) fields.choice("sampler", SAMPLERS) else SAMPLERS.first(),
        )
        fields.end()
        if (generation.defaultGuidance !in generation.minGuidance..generation.maxGuidance) {
            Fields.refuse("generation", "default_guidance is not between min_guidance and max_guidance")
        }
        return generation
    }

    private fun variants(fields: Fields): Map<String, Variant> {
        val names = fields.keys().toList()
        if (names.size !in 1..MAX_VARIANTS) Fields.refuse("variants", "1 to $MAX_VARIANTS are expected")
        names.firstOrNull { !NAME.matches(it) }?.let { Fields.refuse("variants", "'$it' is no name") }
        return names.associateWith { EntriesReader.variant(fields.fields(it)) }
    }

    private fun provenance(fields: Fields): Provenance {
        val provenance = Provenance(
            commit = fields.text("commit", WORD),
            checkpoint = fields.text("checkpoint", WORD),
            recipes = words(fields, "recipes", DIGEST),
            tools = words(fields, "tools", WORD),
        )
        fields.end()
        return provenance
    }

    private fun words(fields: Fields, name: String, form: Regex): Map<String, String> {
        if (!fields.has(name)) return emptyMap()
        val table = fields.fields(name)
        if (table.keys().size > 64) Fields.refuse(fields.at(name), "more than 64 items")
        return table.keys().associateWith {
            if (!NAME.matches(it)) Fields.refuse(fields.at(name), "'$it' is no name")
            table.text(it, form)
        }
    }

    private fun check(manifest: Manifest, config: ModelConfig) {
        require(manifest.tokenizer.maxTokens == config.maxTokens) {
            "tokenizer.max_tokens is not that of config.text_encoder"
        }
        val limits = manifest.others.map { (name, file) -> file to OTHERS.getValue(name) }
        for ((file, limit) in limits + (manifest.tokenizer to MAX_TOKENIZER_BYTES)) {
            require(file.bytes <= limit) { "'${file.file}': ${file.bytes} bytes, at most $limit are allowed" }
        }
        for ((name, variant) in manifest.variants) {
            val inputs = variant.stages.getValue("generator").inputs.map { it.name }
            require(manifest.generation.maxSteps == 1 || ("time" in inputs && "duration" in inputs)) {
                "max_steps is ${manifest.generation.maxSteps}, but $name is made for one step"
            }
        }
        checkPaths(manifest.files())
    }

    /** One meaning on every file system: no two spellings of a name, no file that is also a directory. */
    private fun checkPaths(files: List<BundleFile>) {
        val known = HashMap<String, BundleFile>()
        val owners = HashMap<String, String>()
        val directories = HashMap<String, String>()
        for (file in files) {
            val other = known.getOrPut(Ascii.lower(file.file)) { file }
            val same = other.file == file.file && other.sha256 == file.sha256 && other.stored() == file.stored()
            require(same) { "'${file.file}' is described twice, differently" }
            for ((path, _) in file.stored()) {
                require(owners.getOrPut(Ascii.lower(path)) { file.file } == file.file) {
                    "'$path' is described twice, differently"
                }
            }
            val parts = file.file.split('/')
            for (count in 1 until parts.size) {
                val directory = parts.take(count).joinToString("/")
                require(directories.getOrPut(Ascii.lower(directory)) { directory } == directory) {
                    "'$directory' is spelled in two ways"
                }
            }
        }
        owners.keys.filter { it in directories }.minOrNull()?.let {
            throw IllegalArgumentException("'$it' is a file and a directory")
        }
        require(owners.size <= MAX_FILES) { "more than $MAX_FILES files" }
        require(known.values.sumOf { it.bytes } <= MAX_TOTAL_BYTES) { "more than $MAX_TOTAL_BYTES bytes in all" }
    }
}
