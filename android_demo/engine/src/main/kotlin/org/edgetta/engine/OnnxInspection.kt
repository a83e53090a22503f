package org.edgetta.engine

import java.nio.ByteBuffer

/**
 * Static inspection of ONNX files: what a native loader must never be handed. The rules are those of the Python package
 * (edge_tta/bundle/onnx_inspect.py); field numbers are those of onnx.proto3, IR version 13.
 *
 * Refused are external data, operators of unknown domains, control flow and subgraphs, functions, tensors that claim
 * more elements than the file holds, too new opsets, and fields that are not in the schema. Whether the graph makes
 * sense is left to the runtime.
 */
internal class OnnxInspection private constructor() {
    private var nodes = 0

    companion object {
        private val DOMAINS = setOf("", "ai.onnx", "com.microsoft")

        /** Control flow, and the operator that loads a compiled graph from another file. */
        private val FORBIDDEN_OPERATORS = setOf("Loop", "If", "Scan", "SequenceMap", "EPContext")
        private const val MAX_OPSET = 24
        private const val MAX_FIELDS = 250_000
        private const val MAX_NODES = 20_000
        private const val MAX_TENSOR_ELEMENTS = 1L shl 30
        private const val MAX_NAME_BYTES = 256

        // Fields that can hold nothing dangerous; those handled below and those refused by name are not listed.
        private val MODEL_PLAIN = setOf(1, 2, 3, 4, 5, 6, 14, 26)
        private val GRAPH_PLAIN = setOf(2, 10, 11, 12, 13, 14, 16)
        private val NODE_PLAIN = setOf(1, 2, 3, 6, 8, 9, 10)
        private val ATTRIBUTE_PLAIN = setOf(1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21)
        private val TENSOR_PLAIN = setOf(2, 8, 12, 14, 16)
        private val TENSOR_PAYLOAD = setOf(4, 5, 6, 7, 9, 10, 11)

        /** The mark by which ONNX Runtime takes a file for its own format, whatever else it may be. */
        private val OWN_FORMAT = "ORTM".toByteArray(Charsets.US_ASCII)

        /**
         * Look through a file.
         *
         * @param name file name for messages.
         * @throws BundleException the file could reach outside its bytes or run without bound; names the reason.
         */
        fun inspect(name: String, data: ByteBuffer) {
            try {
                val marked = data.limit() >= 8 && OWN_FORMAT.indices.all { data[4 + it] == OWN_FORMAT[it] }
                require(!marked) { "it is marked as ONNX Runtime's own format" }
                OnnxInspection().model(WireReader(data, MAX_FIELDS))
            } catch (error: IllegalArgumentException) {
                throw BundleException(Unicode.oneLine("$name: not an acceptable ONNX file (${error.message})"), error)
            }
        }

        private fun refuse(reason: String): Nothing = throw IllegalArgumentException(reason)

        private fun requirePlain(fields: WireReader, plain: Set<Int>, place: String) =
            require(fields.field in plain) { "unknown field ${fields.field} of $place" }
    }

    private fun model(fields: WireReader) {
        var graphs = 0
        while (fields.next()) {
            when (fields.field) {
                7 -> graph(fields.message()).also { graphs++ }
                8 -> opset(fields.message())
                20 -> refuse("training graphs are not allowed")
                25 -> refuse("local functions are not allowed")
                else -> requirePlain(fields, MODEL_PLAIN, "the model")
            }
        }
        require(graphs == 1) { "$graphs graphs instead of one" }
    }

    private fun opset(fields: WireReader) {
        while (fields.next()) {
            when (fields.field) {
                1 -> checkDomain(name(fields))
                2 -> require(fields.number() in 0..MAX_OPSET) { "opset ${fields.number()} is newer than $MAX_OPSET" }
                else -> refuse("unknown field ${fields.field} of an opset")
            }
        }
    }

    private fun graph(fields: WireReader) {
        while (fields.next()) {
            when (fields.field) {
                1 -> node(fields.message())
                5 -> tensor(fields.message())
                15 -> refuse("sparse initializers are not allowed")
                else -> requirePlain(fields, GRAPH_PLAIN, "the graph")
            }
        }
    }

    private fun node(fields: WireReader) {
        nodes++
        require(nodes <= MAX_NODES) { "more than $MAX_NODES nodes" }
        while (fields.next()) {
            when (fields.field) {
                4 -> name(fields).let { require(it !in FORBIDDEN_OPERATORS) { "operator $it is not allowed" } }
                5 -> attribute(fields.message())
                7 -> checkDomain(name(fields))
                else -> requirePlain(fields, NODE_PLAIN, "a node")
            }
        }
    }

    private fun attribute(fields: WireReader) {
        while (fields.next()) {
            when (fields.field) {
                5, 10 -> tensor(fields.message())
                6, 11 -> refuse("subgraphs are not allowed")
                22, 23 -> refuse("sparse tensors are not allowed")
                else -> requirePlain(fields, ATTRIBUTE_PLAIN, "an attribute")
            }
        }
    }

    private fun tensor(fields: WireReader) {
        var elements = 1L
        var payload = 0L
        while (fields.next()) {
            val field = fields.field
            if (field == 13 || (field == 14 && (!fields.isNumber || fields.number() != 0L))) {
                refuse("external data is not allowed: every file of a bundle must be self-contained")
            }
            when (field) {
                1 -> fields.numbers { elements = product(elements, it) }
                in TENSOR_PAYLOAD -> payload += maxOf(1, fields.size)
                else -> requirePlain(fields, TENSOR_PLAIN, "a tensor")
            }
        }
        // The densest type packs two elements into a byte.
        require(elements <= 2 * payload) { "a tensor claims $elements elements and holds $payload bytes" }
    }

    /** Both are at most 2^30, so that nothing overflows; what reads as negative is meant as unsigned and larger. */
    private fun product(elements: Long, dimension: Long): Long {
        val fits = dimension in 0..MAX_TENSOR_ELEMENTS && elements * dimension <= MAX_TENSOR_ELEMENTS
        return if (fits) elements * dimension else refuse("a tensor has too many elements")
    }

    private fun checkDomain(domain: String) =
        require(domain in DOMAINS) { "operators of domain '$domain' are not allowed" }

    private fun name(fields: WireReader): String = String(fields.bytes(MAX_NAME_BYTES), Charsets.UTF_8)
}
