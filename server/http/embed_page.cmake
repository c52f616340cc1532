# Writes the page's files as C++:  cmake -DPAGE=folder -DOUTPUT=file.cc -P embed_page.cmake
# A raw string holds any text but its own end, which stands in none of them.
function(embed variable file)
  file(READ "${PAGE}/${file}" text)
  if(text MATCHES "\\)embedded\"")
    message(FATAL_ERROR "${file} holds the end of a raw string")
  endif()
  file(APPEND "${OUTPUT}.new" "const absl::string_view ${variable} = R\"embedded(${text})embedded\";\n")
endfunction()

file(WRITE "${OUTPUT}.new" "#include \"server/http/page_files.h\"\n\nnamespace moed {\n\n")
embed(kPageHtml index.html)
embed(kPageScript app.js)
embed(kPageStyle app.css)
file(APPEND "${OUTPUT}.new" "\n}  // namespace moed\n")
file(RENAME "${OUTPUT}.new" "${OUTPUT}")
