#include "runtime/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/tokenizer/wire_reader.h"

namespace moed {
namespace {

constexpr int64_t kModelTypeUnigram = 1;  // the format's default when the field is absent
constexpr int64_t kModelTypeBpe = 2;

// What the trainer and normaliser messages say beside SentencePieceModel's own fields: kept until
// the whole file is read, because a later field may overwrite an earlier one.
struct Refusable {
  int64_t model_type = kModelTypeUnigram;
  bool treat_whitespace_as_suffix = false;
  bool escape_whitespaces = true;
  std::string normalizer_name;
  size_t charsmap_bytes = 0;
  size_t denormalizer_charsmap_bytes = 0;
};

absl::Status Annotate(absl::string_view file, absl::string_view where, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(file, ": ", where, ": ", status.message()));
}

absl::Status Unsupported(absl::string_view file, absl::string_view field,
                         absl::string_view expected, absl::string_view found) {
  return absl::UnimplementedError(
      absl::StrCat(file, ": ", field, ": expected ", expected, ", found ", found));
}

absl::string_view ModelTypeName(int64_t model_type) {
  switch (model_type) {
    case 1:
      return "UNIGRAM";
    case 2:
      return "BPE";
    case 3:
      return "WORD";
    case 4:
      return "CHAR";
    default:
      return "an unknown type";
  }
}

absl::Status ParsePieceField(const WireField& field, SentencePiece* piece) {
  switch (field.number) {
    case 1: {
      MOED_ASSIGN_OR_RETURN(const absl::string_view text, field.AsText());
      if (text.size() > SentencePieceModel::kMaxPieceBytes) {
        return absl::InvalidArgumentError(absl::StrCat("piece: expected at most ",
                                                       SentencePieceModel::kMaxPieceBytes,
                                                       " bytes, found ", text.size()));
      }
      piece->text.assign(text.data(), text.size());
      return absl::OkStatus();
    }
    case 2: {
      MOED_ASSIGN_OR_RETURN(piece->score, field.AsFloat());
      if (!std::isfinite(piece->score)) {
        return absl::InvalidArgumentError(
            absl::StrCat("score: expected a finite number, found ", piece->score));
      }
      return absl::OkStatus();
    }
    case 3: {
      MOED_ASSIGN_OR_RETURN(const int64_t type, field.AsInteger());
      if (type < 1 || type > 6) {
        return absl::InvalidArgumentError(absl::StrCat("type: expected 1 to 6, found ", type));
      }
      piece->type = static_cast<PieceType>(type);
      return absl::OkStatus();
    }
    default:
      return absl::OkStatus();
  }
}

absl::Status ParsePiece(absl::string_view message, SentencePiece* piece) {
  WireReader reader(message);
  while (!reader.Done()) {
    MOED_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    MOED_RETURN_IF_ERROR(ParsePieceField(field, piece));
  }
  if (piece->text.empty()) {
    return absl::InvalidArgumentError("piece: expected a text, found none");
  }
  return absl::OkStatus();
}

absl::Status AssignText(const WireField& field, std::string* text) {
  MOED_ASSIGN_OR_RETURN(const absl::string_view value, field.AsText());
  text->assign(value.data(), value.size());
  return absl::OkStatus();
}

absl::Status ParseTrainerSpec(absl::string_view message, SentencePieceModel* model,
                              Refusable* refusable) {
  WireReader reader(message);
  while (!reader.Done()) {
    MOED_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    switch (field.number) {
      case 3: {
        MOED_ASSIGN_OR_RETURN(refusable->model_type, field.AsInteger());
        break;
      }
      case 24: {
        MOED_ASSIGN_OR_RETURN(refusable->treat_whitespace_as_suffix, field.AsBool());
        break;
      }
      case 35: {
        MOED_ASSIGN_OR_RETURN(model->byte_fallback, field.AsBool());
        break;
      }
      case 44:
        MOED_RETURN_IF_ERROR(AssignText(field, &model->unk_surface));
        break;
      case 46:
        MOED_RETURN_IF_ERROR(AssignText(field, &model->bos_piece));
        break;
      case 47:
        MOED_RETURN_IF_ERROR(AssignText(field, &model->eos_piece));
        break;
      case 48:
        MOED_RETURN_IF_ERROR(AssignText(field, &model->pad_piece));
        break;
      default:
        break;  // how the model was trained
    }
  }
  return absl::OkStatus();
}

absl::Status ParseNormalizerSpec(absl::string_view message, SentencePieceModel* model,
                                 Refusable* refusable) {
  WireReader reader(message);
  while (!reader.Done()) {
    MOED_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    switch (field.number) {
      case 1:
        MOED_RETURN_IF_ERROR(AssignText(field, &refusable->normalizer_name));
        break;
      case 2: {
        MOED_ASSIGN_OR_RETURN(const absl::string_view charsmap, field.AsBytes());
        refusable->charsmap_bytes = charsmap.size();
        break;
      }
      case 3: {
        MOED_ASSIGN_OR_RETURN(model->add_dummy_prefix, field.AsBool());
        break;
      }
      case 4: {
        MOED_ASSIGN_OR_RETURN(model->remove_extra_whitespaces, field.AsBool());
        break;
      }
      case 5: {
        MOED_ASSIGN_OR_RETURN(refusable->escape_whitespaces, field.AsBool());
        break;
      }
      default:
        break;  // the rules' source, which the compiled charsmap replaces
    }
  }
  return absl::OkStatus();
}

absl::Status ParseDenormalizerSpec(absl::string_view message, Refusable* refusable) {
  WireReader reader(message);
  while (!reader.Done()) {
    MOED_ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.number != 2) continue;
    MOED_ASSIGN_OR_RETURN(const absl::string_view charsmap, field.AsBytes());
    refusable->denormalizer_charsmap_bytes = charsmap.size();
  }
  return absl::OkStatus();
}

// Wraps what goes wrong in a sub-message with the file and the field that holds it.
absl::Status ParseModelField(const WireField& field, absl::string_view file,
                             SentencePieceModel* model, Refusable* refusable) {
  std::string name;
  absl::Status status;
  switch (field.number) {
    case 1: {
      if (model->pieces.size() == SentencePieceModel::kMaxPieces) {
        return absl::InvalidArgumentError(absl::StrCat(
            file, ": pieces: expected at most ", SentencePieceModel::kMaxPieces, ", found more"));
      }
      const absl::StatusOr<absl::string_view> message = field.AsBytes();
      SentencePiece piece;
      status = message.ok() ? ParsePiece(*message, &piece) : message.status();
      if (status.ok()) {
        model->pieces.push_back(std::move(piece));
        return status;
      }
      return Annotate(file, absl::StrCat("pieces[", model->pieces.size(), "]"), status);
    }
    case 2:
    case 3:
    case 5: {
      name = field.number == 2   ? "trainer_spec"
             : field.number == 3 ? "normalizer_spec"
                                 : "denormalizer_spec";
      const absl::StatusOr<absl::string_view> message = field.AsBytes();
      if (!message.ok()) return Annotate(file, name, message.status());
      if (field.number == 2) status = ParseTrainerSpec(*message, model, refusable);
      if (field.number == 3) status = ParseNormalizerSpec(*message, model, refusable);
      if (field.number == 5) status = ParseDenormalizerSpec(*message, refusable);
      return status.ok() ? status : Annotate(file, name, status);
    }
    default:
      return absl::OkStatus();  // the trainer's self-test samples, and extensions
  }
}

absl::Status RefuseUnsupported(const Refusable& refusable, absl::string_view file) {
  if (refusable.model_type != kModelTypeBpe) {
    return Unsupported(
        file, "trainer_spec.model_type", "BPE (2)",
        absl::StrCat(ModelTypeName(refusable.model_type), " (", refusable.model_type, ")"));
  }
  if (refusable.treat_whitespace_as_suffix) {
    return Unsupported(file, "trainer_spec.treat_whitespace_as_suffix", "false", "true");
  }
  if (refusable.charsmap_bytes > 0) {
    return Unsupported(file, "normalizer_spec.precompiled_charsmap",
                       "none (the identity normaliser)",
                       absl::StrCat(refusable.charsmap_bytes, " bytes of normaliser '",
                                    absl::CHexEscape(refusable.normalizer_name), "'"));
  }
  if (!refusable.escape_whitespaces) {
    return Unsupported(file, "normalizer_spec.escape_whitespaces", "true", "false");
  }
  if (refusable.denormalizer_charsmap_bytes > 0) {
    return Unsupported(file, "denormalizer_spec.precompiled_charsmap", "none",
                       absl::StrCat(refusable.denormalizer_charsmap_bytes, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> SentencePieceModel::Parse(absl::string_view bytes,
                                                             absl::string_view file) {
  SentencePieceModel model;
  Refusable refusable;
  WireReader reader(bytes);
  while (!reader.Done()) {
    const absl::StatusOr<WireField> field = reader.Next();
    if (!field.ok()) return Annotate(file, "model", field.status());
    MOED_RETURN_IF_ERROR(ParseModelField(*field, file, &model, &refusable));
  }
  if (model.pieces.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": pieces: expected some, found none"));
  }
  MOED_RETURN_IF_ERROR(RefuseUnsupported(refusable, file));
  return model;
}

absl::StatusOr<SentencePieceModel> SentencePieceModel::Load(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  std::string bytes;
  char buffer[1 << 16];
  size_t num_read = 0;
  while ((num_read = std::fread(buffer, 1, sizeof(buffer), file.get())) > 0) {
    if (bytes.size() + num_read > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": expected at most ", kMaxFileBytes, " bytes, found more"));
    }
    bytes.append(buffer, num_read);
  }
  if (std::ferror(file.get()) != 0) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  }
  return Parse(bytes, path);
}

}  // namespace moed
