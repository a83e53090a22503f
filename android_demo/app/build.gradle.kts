import javax.inject.Inject

plugins {
    alias(libs.plugins.android.application)
}

/** Copies the parts of a bundle that the app runs: what the manifest says of other variants is simply absent. */
abstract class CopyBundle @Inject constructor(private val files: FileSystemOperations) : DefaultTask() {
    @get:InputDirectory
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val bundle: DirectoryProperty

    @get:Input
    abstract val variants: ListProperty<String>

    @get:OutputDirectory
    abstract val assets: DirectoryProperty

    @TaskAction
    fun copy() {
        files.sync {
            from(bundle) {
                include("manifest.json", "tokenizer.model", "MODEL_CARD.md", "ATTRIBUTIONS.csv")
                include(variants.get().map { "$it/**" })
            }
            into(assets.dir("bundle"))
        }
    }
}

android {
    namespace = "org.edgetta.demo"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "org.edgetta.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "0.1.0"
        // What both runtimes have libraries for: phones, and emulators on desktop computers.
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    // Weights do not compress, and are copied out once.
    androidResources { noCompress += listOf("onnx", "pte", "model") }

    packaging {
        // Both runtimes may bring the C++ library.
        jniLibs { pickFirsts += "**/libc++_shared.so" }
    }
}

androidComponents {
    onVariants { variant ->
        val copy = tasks.register<CopyBundle>("${variant.name}CopyBundle") {
            // -PedgeTtaBundle=FOLDER and -PedgeTtaVariants=NAME,NAME take another bundle or other variants.
            bundle = providers.gradleProperty("edgeTtaBundle").map { layout.projectDirectory.dir(it) }
                .orElse(layout.projectDirectory.dir("../../edge_tta/assets/edge-10m"))
            variants = providers.gradleProperty("edgeTtaVariants").orElse("ort-int8").map { it.split(",") }
        }
        variant.sources.assets?.addGeneratedSourceDirectory(copy, CopyBundle::assets)
    }
}

dependencies {
    implementation(project(":backends"))
}
