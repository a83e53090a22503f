package org.edgetta.engine

private const val MAX_PATH_CHARACTERS = 120
private const val MAX_PATH_PARTS = 8
private const val MAX_PARTS = 32
private const val MIN_PART_BYTES = 4096L
private const val MAX_AXES = 4
private const val MAX_OPERATORS = 256
private const val PACKAGE_SUFFIX = ".mlpackage"
private const val PROGRAM_FILE = "Data/com.apple.CoreML/model.mlmodel"
private val PACKAGE_COMPANIONS = listOf("Manifest.json", "Data/com.apple.CoreML/weights/weight.bin")
private val SUFFIXES = mapOf("ort" to ".onnx", "executorch" to ".pte", "coreml" to ".mlmodel")
private val PRECISIONS = listOf("fp32", "fp16", "int8", "int4")
private val DELEGATES = listOf("xnnpack", "coreml")
private val INPUTS = mapOf(
    "text_encoder" to listOf("ids"),
    "generator" to listOf("latent", "time", "duration", "tokens", "pooled", "seconds", "guidance"),
    "decoder" to listOf("latent"),
)
private val OUTPUTS = mapOf(
    "text_encoder" to listOf("tokens", "pooled"),
    "generator" to listOf("velocity"),
    "decoder" to listOf("waveform"),
)
private val PATH = Regex("[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
private val OPERATOR = Regex("[A-Za-z_][A-Za-z0-9_.:]{0,99}")
private val AXIS = Regex("[a-z][a-z0-9_]{0,31}")
private val RESERVED = Regex("con|prn|aux|nul|com[1-9]|lpt[1-9]")

internal val NAME = Regex("[a-z0-9][a-z0-9._-]{0,63}")
internal val DIGEST = Regex("[0-9a-f]{64}")

/** Reads what a manifest says of single files: paths, hashes, graphs with their inputs and outputs, variants. */
internal object EntriesReader {
    /** A plain file. */
    fun file(fields: Fields): BundleFile {
        val entry = BundleFile(path(fields), size(fields), fields.text("sha256", DIGEST))
        fields.end()
        return entry
    }

    /** The tokenizer. */
    fun tokenizer(fields: Fields): TokenizerFile {
        val most = fields.whole("max_tokens", 2L..512).toInt()
        val entry = TokenizerFile(path(fields), size(fields), fields.text("sha256", DIGEST), most)
        fields.end()
        return entry
    }

    /** A variant with its three stages. */
    fun variant(fields: Fields): Variant {
        val backend = fields.choice("backend", SUFFIXES.keys)
        val precision = fields.choice("precision", PRECISIONS)
        val graphs = fields.fields("stages")
        val stages = STAGES.associateWith { stage(graphs.fields(it), it, SUFFIXES.getValue(backend)) }
        graphs.end()
        val variant = Variant(
            backend,
            precision,
            stages,
            if (fields.has("parity_snr_db")) parity(fields.fields("parity_snr_db")) else emptyMap(),
            if (fields.has("companions")) companions(fields) else emptyList(),
            if (fields.has("delegate")) fields.choice("delegate", DELEGATES) else DELEGATES.first(),
        )
        checkCalibration(fields)
        checkDelegation(fields, backend)
        fields.end()
        if (variant.delegate != DELEGATES.first() && backend != "executorch") {
            Fields.refuse(fields.at("delegate"), "a graph for $backend has no delegate")
        }
        checkPackages(variant, fields.at("companions"))
        return variant
    }

    /** Nothing here reads the record, but a manifest is judged as in Python; null means as much as leaving it out. */
    private fun checkCalibration(fields: Fields) {
        if (!fields.has("calibration") || fields.any("calibration") == null) return
        val record = fields.fields("calibration")
        record.text("sha256", DIGEST)
        record.whole("requests", 1L..Int.MAX_VALUE)
        record.end()
    }

    /** As [checkCalibration]: where the nodes of an ExecuTorch program's stages run. */
    private fun checkDelegation(fields: Fields, backend: String) {
        if (!fields.has("delegation")) return
        val stages = fields.fields("delegation")
        if (stages.keys().isNotEmpty() && backend != "executorch") {
            Fields.refuse(fields.at("delegation"), "a graph for $backend delegates nothing")
        }
        for (stage in STAGES.filter { stages.has(it) }) {
            val record = stages.fields(stage)
            record.whole("subgraphs", 0L..Int.MAX_VALUE)
            checkNodes(record.fields("delegated"), record.at("delegated"))
            checkNodes(record.fields("portable"), record.at("portable"))
            record.end()
        }
        stages.end()
    }

    private fun checkNodes(nodes: Fields, place: String) {
        val operators = nodes.keys()
        if (operators.size > MAX_OPERATORS) Fields.refuse(place, "more than $MAX_OPERATORS operators")
        for (operator in operators) {
            if (!OPERATOR.matches(operator)) Fields.refuse(place, "'$operator' is no operator")
            nodes.whole(operator, 1L..Int.MAX_VALUE)
        }
    }

    private fun companions(fields: Fields): List<BundleFile> =
        fields.list("companions", 8) { item, at -> file(Fields.of(item, at)) }

    private fun path(fields: Fields): String {
        val path = fields.text("file", PATH)
        val parts = path.split('/')
        if (path.length > MAX_PATH_CHARACTERS || parts.size > MAX_PATH_PARTS || Ascii.lower(path) == MANIFEST_NAME) {
            Fields.refuse(fields.at("file"), "'$path' is too long, too deep or the manifest itself")
        }
        if (parts.any { it.endsWith(".") || RESERVED.matches(Ascii.lower(it.substringBefore('.'))) }) {
            Fields.refuse(fields.at("file"), "'$path' is not a portable file name")
        }
        return path
    }

    private fun size(fields: Fields): Long = fields.whole("bytes", 1L..MAX_FILE_BYTES)

    private fun stage(fields: Fields, stage: String, suffix: String): StageFile {
        val entry = StageFile(
            path(fields),
            size(fields),
            fields.text("sha256", DIGEST),
            fields.list("inputs", 16) { item, at -> port(Fields.of(item, at)) },
            fields.list("outputs", 4) { item, at -> port(Fields.of(item, at)) },
            partBytes(fields),
        )
        fields.end()
        if (!entry.file.endsWith(suffix)) Fields.refuse(fields.at("file"), "'${entry.file}' does not end in $suffix")
        val part = entry.partBytes
        if (part != null && (part >= entry.bytes || (entry.bytes - 1) / part >= MAX_PARTS)) {
            Fields.refuse(fields.at("part_bytes"), "part_bytes asks for 2 to $MAX_PARTS parts")
        }
        val inputs = entry.inputs.map { it.name }
        val known = INPUTS.getValue(stage)
        if (inputs.isEmpty() || inputs.toSet().size != inputs.size || !known.containsAll(inputs)) {
            val wanted = known.joinToString()
            Fields.refuse(fields.at("inputs"), "inputs of $stage are $wanted, not ${inputs.joinToString()}")
        }
        val outputs = entry.outputs.map { it.name }
        if (outputs != OUTPUTS.getValue(stage)) {
            val wanted = OUTPUTS.getValue(stage).joinToString()
            Fields.refuse(fields.at("outputs"), "outputs of $stage are $wanted, not ${outputs.joinToString()}")
        }
        return entry
    }

    /** Null in place of the number means as much as leaving it out. */
    private fun partBytes(fields: Fields): Long? {
        if (!fields.has("part_bytes") || fields.any("part_bytes") == null) return null
        return fields.whole("part_bytes", MIN_PART_BYTES..Long.MAX_VALUE)
    }

    private fun port(fields: Fields): Port {
        val name = fields.text("name", NAME)
        val type = fields.choice("dtype", listOf("float32", "int64"))
        val shape = fields.list("shape", MAX_AXES) { axis, at ->
            val fits = (axis is Long && axis in 1..Int.MAX_VALUE) || (axis is String && AXIS.matches(axis))
            if (axis == null || !fits) Fields.refuse(at, "a length or the name of one is expected")
            axis
        }
        fields.end()
        return Port(name, type, shape)
    }

    private fun parity(fields: Fields): Map<String, Double> {
        val found = STAGES.filter { fields.has(it) }.associateWith {
            fields.number(it, Double.NEGATIVE_INFINITY, Double.POSITIVE_INFINITY)
        }
        fields.end()
        return found
    }

    /** Every Core ML package is described whole, and nothing is described that belongs to none. */
    private fun checkPackages(variant: Variant, place: String) {
        val needed = HashSet<String>()
        if (variant.backend == "coreml") {
            for (stage in variant.stages.values) {
                val folder = stage.file.removeSuffix("/$PROGRAM_FILE")
                if (folder == stage.file || !folder.endsWith(PACKAGE_SUFFIX)) {
                    Fields.refuse(place, "'${stage.file}' is no program of a package")
                }
                if (stage.partBytes != null) Fields.refuse(place, "a Core ML package cannot be stored in parts")
                PACKAGE_COMPANIONS.mapTo(needed) { "$folder/$it" }
            }
        }
        val described = variant.companions.map { it.file }.toSet()
        (needed - described).minOrNull()?.let { Fields.refuse(place, "'$it' is missing") }
        (described - needed).minOrNull()?.let { Fields.refuse(place, "'$it' is no part of a package") }
    }
}

/** Paths are ASCII; the language of the phone must not change their case. */
internal object Ascii {
    /** Lower case of A to Z alone. */
    fun lower(text: String): String =
        String(CharArray(text.length) { if (text[it] in 'A'..'Z') text[it] + 32 else text[it] })
}
