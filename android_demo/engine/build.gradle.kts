import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        // Nothing newer than Java 8 is used: Android has that much since API level 26.
        freeCompilerArgs.add("-Xjdk-release=1.8")
    }
}

// The program in src/test is driven by tests/android/engine, which compares it with the Python package.
tasks.test { enabled = false }
