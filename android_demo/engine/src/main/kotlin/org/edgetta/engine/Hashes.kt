package org.edgetta.engine

import java.security.MessageDigest

/** SHA-256 in the form that manifests have it. */
internal object Hashes {
    /** A digest that bytes are added to. */
    fun sha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

    /** SHA-256 of text in ASCII, hexadecimal. */
    fun ofText(text: String): String = hexadecimal(sha256().digest(text.toByteArray(Charsets.US_ASCII)))

    /** Lower-case hexadecimal digits of bytes. */
    fun hexadecimal(bytes: ByteArray): String {
        val digits = StringBuilder(2 * bytes.size)
        for (byte in bytes) {
            digits.append(Character.forDigit(byte.toInt() shr 4 and 15, 16))
            digits.append(Character.forDigit(byte.toInt() and 15, 16))
        }
        return digits.toString()
    }
}
